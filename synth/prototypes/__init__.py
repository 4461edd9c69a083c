"""Networks to start from. Adding one is one file and one line in `registry.PROTOTYPES`."""
