"""The compiled layer: the C core (csrc) as a few Python classes. Nothing above the engine imports it."""
