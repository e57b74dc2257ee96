"""What the engine's tests share."""

from penstock.engine.child import silence_telemetry

silence_telemetry()  # before any test imports OpenVINO
