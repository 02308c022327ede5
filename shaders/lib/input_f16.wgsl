// Activations as they are given, as f16, two in a word.

@group(0) @binding(3) var<storage, read> x: array<u32>;

fn input(i: u32) -> f32 {
    return unpack2x16float(x[i >> 1u] >> ((i & 1u) * 16u)).x;
}
