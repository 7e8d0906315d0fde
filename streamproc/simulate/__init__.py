"""Seeded simulations with known truth: a fleet of PMUs (`fleet`) and SCADA points (`scada`)."""
