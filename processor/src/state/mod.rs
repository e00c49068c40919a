//! Aggregate state, positions and dirty keys of one version.
