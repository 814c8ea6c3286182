//! What the simulation has to find, and what it must not.

mod disk;
mod every_operation;
mod mutants;
mod outage;
mod seeds;
