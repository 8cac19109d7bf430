"""The only place of the pack that imports comfy.*; one file a concern. Uses the engine, never the other way round."""
