"""Mail: what is posted is rendered, sent by one of several transports, and tried again where that fails."""
