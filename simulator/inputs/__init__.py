"""YAML -> validated, frozen objects; every mistake is reported with its file, line and column.

``yaml_source`` reads a file and remembers where each key stands, ``fields`` holds the types that schemas are made of,
``validate`` checks a document against a schema. Nothing here knows what a plan, a model or a topology is.
"""
