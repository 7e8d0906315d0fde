"""Real-time grid telemetry: PMU and SCADA measurements in, alerts, forecasts and advice out."""

__version__ = "0.1.0"
