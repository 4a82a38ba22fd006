"""The wire contract between trainers, daemon and operators, as checked-in generated code."""
