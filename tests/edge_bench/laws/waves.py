"""A board whose time goes in whole waves of threads and whose power saturates: of no shape that the cost model has.

The cost model adds up what every layer costs, in proportion to its work. Here a layer's time is a staircase in its
outputs (a wave is what the GPU holds at once) and in its channels (vectors of 16 are computed whole); launches become
cheaper one after the other, as a queue is filled; and power is no sum at all: it grows with the root of how busy the
GPU is over the whole inference, so that what one layer adds depends on all others. The constants are those of no board.
"""
import math

IDLE_MW = 3100.0
HOST_MS, HOST_IMAGE_MS = 0.30, 0.012
FIRST_LAUNCH_MS, LATER_LAUNCH_MS, FORGETS = 0.075, 0.040, 6.0
WAVE = 2048.0  # outputs
WAVE_MS, DEPTH_MS = 0.010, 4e-5  # of a wave, and of one multiply-accumulate of depth in it
BUSY_MW = 7500.0


def cost(layers, batch):
    milliseconds = HOST_MS + HOST_IMAGE_MS * batch
    work = 0.0
    for number, layer in enumerate(layers):
        vector = 16.0 * math.ceil(layer["channels"] / 16.0) / layer["channels"]
        waves = math.ceil(batch * layer["outputs"] * vector / WAVE)
        busy = waves * (WAVE_MS + DEPTH_MS * layer["depth"])
        launch = LATER_LAUNCH_MS + (FIRST_LAUNCH_MS - LATER_LAUNCH_MS) * math.exp(-number / FORGETS)
        milliseconds += launch + busy
        work += busy * min(1.0, batch * layer["outputs"] * vector / (waves * WAVE))
    share = work / milliseconds
    return milliseconds, IDLE_MW + BUSY_MW * math.sqrt(share)
