"""Export: what was trained, in the forms that engines load, with a model card, registered for the generator."""
