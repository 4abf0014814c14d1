"""Rules about configs: refusals, warnings, migrations from older versions, and keys that a resume compares."""
