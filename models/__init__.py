"""Rillet's models and what is kept of them; knows neither Beam nor `pipelines`.

Importing this package, `models.config`, `models.errors`, `models.schema`,
`models.store.store` or `models.serve.recommend` does not load TensorFlow.
"""
