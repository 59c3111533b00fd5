"""How true, how useful and how private: metrics, the report and its page."""
