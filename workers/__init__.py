"""The worker side: processes that claim jobs and see them to their end."""
