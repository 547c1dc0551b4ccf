"""What people read: terminal tables, HTML, traces."""
