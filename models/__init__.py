"""Rillet's models and what is kept of them; knows neither Beam nor `pipelines`.

Importing this package, `models.config`, `models.errors`, `models.schema`,
`models.store` or `models.query` does not load TensorFlow.
"""
