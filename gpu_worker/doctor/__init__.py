"""What ``inferpool doctor`` looks at: one check a function, each with its remedy."""
