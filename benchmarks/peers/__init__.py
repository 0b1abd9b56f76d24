"""Other servers, each as its documentation recommends, asked for the same. Only measured, never shipped."""
