"""Planning: from YAML to cells, each with the parameters that spend its budget."""
