"""What results become: figures, files and reports."""
