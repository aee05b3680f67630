"""What a trained editor is measured by."""
