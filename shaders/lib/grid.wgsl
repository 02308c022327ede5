// For formats whose codes are entries of a codebook in `book`. Twin: src/format/ggml/grid.rs.

fn bytes(v: u32) -> vec4<u32> {
    return (vec4<u32>(v) >> vec4<u32>(0u, 8u, 16u, 24u)) & vec4<u32>(255u);
}

fn book4(entry: vec4<u32>) -> vec4<u32> {
    return vec4<u32>(book[entry.x], book[entry.y], book[entry.z], book[entry.w]);
}

// Nibbles with two bits of each hexadecimal digit of a value, less eight: 8, 25 and 43 are 0x08,
// 0x19 and 0x2b. Quad `i` of four entries with a nibble a value.
fn nibble_entries(v: vec4<u32>, i: u32) -> u32 {
    let word = component(v, i >> 1u);
    let q = select(word, word >> 4u, (i & 1u) == 1u);
    return (q & 0x03030303u) | ((q & 0x0c0c0c0cu) << 2u) | 0x08080808u;
}

// The 32 signs of a chunk whose top four are not stored: each makes the negative ones of its eight
// weights even.
fn even_signs(word: u32) -> u32 {
    let bits = word & 0x0fffffffu;
    let words = bits ^ (bits >> 16u);
    let columns = words ^ (words >> 8u);
    return bits | ((columns ^ (columns >> 4u)) << 28u);
}

// The signs of quad `i`, in the lowest bits of the bytes: bit l of a byte for quad 2 l, bit 4 + l
// for quad 2 l + 1.
fn signs_of(signs: u32, i: u32) -> u32 {
    return (signs >> ((i >> 1u) + 4u * (i & 1u))) & 0x01010101u;
}

// A quad of values 1 .. 127, negative where `ones` is 1: four at a time, as no byte carries.
fn negated(q: u32, ones: u32) -> u32 {
    return (q ^ ((ones << 8u) - ones)) + ones;
}

// The same and 128.
fn negated_biased(q: u32, ones: u32) -> u32 {
    return (q ^ (0x80808080u - ones)) + ones;
}
