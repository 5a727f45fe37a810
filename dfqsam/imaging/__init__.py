"""Pictures in, masks out: files with size limits and clear errors."""
