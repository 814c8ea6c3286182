//! The edge as a client meets it: with real logs below it.

mod bodies;
mod encodings;
mod fixture;
mod listener;
mod outlines;
mod paths;
mod splitting;
