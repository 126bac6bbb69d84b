"""The lesion table: its model, cells, pictures and colours."""
