//! What the stages cost: a call through all of them to a provider that answers at once.
fn main() {
    divan::main();
}
