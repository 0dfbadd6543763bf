"""Where documents come from: folders of this machine, object stores and the web."""
