// The tokens of this dispatch. The host chooses them as it records, by an offset into a table: the
// rest of the parameters is the same for all of them.

struct Span {
    first: u32,  // tokens before these
    count: u32,  // how many they are
}

@group(0) @binding(8) var<uniform> span: Span;
