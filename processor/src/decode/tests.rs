//! Specifications of the decoder.
