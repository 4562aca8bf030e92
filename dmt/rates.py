"""Rates and sizes that every room shares, each with its unit."""

SAMPLE_RATE = 16_000
"""Samples per second of all speech inside the package (mono)."""

FEATURE_RATE = 50
"""Speech feature rows per second (wav2vec 2.0's stride of 320 samples)."""

FRAME_RATE = 25
"""Video frames per second."""

SAMPLES_PER_ROW = SAMPLE_RATE // FEATURE_RATE
"""Samples between two feature rows: 320."""

SAMPLES_PER_FRAME = SAMPLE_RATE // FRAME_RATE
"""Samples shown by one video frame: 640."""

ROWS_PER_FRAME = FEATURE_RATE // FRAME_RATE
"""Feature rows per video frame: 2."""

WINDOW = 11
"""Feature rows the denoiser sees around one frame (5 before, 5 after)."""

COEFFICIENTS = 64
"""Expression coefficients of the Deep3DFaceRecon space, as DreamTalk uses them."""

STYLE_FRAMES = 256
"""Frames a style clip is padded or cut to before it is encoded."""

POSE = 9
"""Numbers of a pose row: 3 angles (radians), 3 translation, 3 crop (scale, tx, ty)."""
