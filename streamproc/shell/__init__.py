"""What touches the world: Kafka, Faust, ONNX Runtime, files, clocks, HTTP."""

import os

# ONNX Runtime's wheels report their use to their maker, and leave a file in the home directory, unless told not to
# before they are loaded. A control centre calls nobody.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
