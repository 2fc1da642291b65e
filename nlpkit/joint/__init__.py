"""Several tasks on one backbone: one `Task` made of several, so that a run of it is a run like any other."""
