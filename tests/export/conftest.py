import pytest
import zoo

from export.exporter import export_network


@pytest.fixture(scope="session")
def exported(tmp_path_factory):
    """(structure, target, batch, precision) -> (path, report), each exported once for all tests."""
    done = {}

    def export(name, target="tx2", batch="1", precision="fp32"):
        key = (name, target, batch, precision)
        if key not in done:
            path = tmp_path_factory.mktemp("zoo") / f"{name}.onnx"
            images = zoo.images(32 if precision == "int8" else 16)
            done[key] = (
                path,
                export_network(zoo.build(name), zoo.SHAPE, images, path, target, batch=batch, precision=precision),
            )
        return done[key]

    return export
