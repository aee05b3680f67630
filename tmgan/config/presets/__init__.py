"""Presets: YAML files that name the settings in which they differ from the defaults of tmgan.config.settings."""
