"""The compiled layer: the C core (csrc) as a few classes. Nothing above the engine imports it."""
