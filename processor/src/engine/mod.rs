//! Steps, commits and the loop around them: the only module that sees all the others.
