"""What the service says about itself: health, metrics, reference pages."""
