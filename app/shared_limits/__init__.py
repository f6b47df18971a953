"""The limits of several replicas: the counters of app.core.quota, kept in Redis."""
