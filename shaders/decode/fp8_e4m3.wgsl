// FP8_E4M3, FP8_E5M2: floats of eight bits; planes qs (8 words for 32 weights), d (the f32 scale of
// a group).
// w[i] = f32(q[i]) * d
// MANTISSA: its bits, 3 or 2. GROUP: columns that share a scale, 0 for all of a row. FINE: a chunk
// of 32 may have several. QUOTIENTS: scales divide, and d has eight words a group, what 1, 1.125, …
// 1.875 are divided by it.
fn decode_init(lane: u32) {}

// What the exponent's bias lacks to that of f32, where NaN begins (E5M2: infinity), and the step of
// subnormal numbers, all of them for codes whose mantissas lie where f32 has them.
const BIAS = select(112u << 23u, 120u << 23u, MANTISSA == 3u);
const TOP = select(0x7cu << 21u, 0x7fu << 20u, MANTISSA == 3u);
const STEP = select(7.275957614183426e-12, 1.862645149230957e-9, MANTISSA == 3u);

// By integers: drivers may flush subnormal numbers of f16 and f32. Twice the bias makes an exponent
// of ones.
fn values(q: u32) -> vec4<f32> {
    let t = vec4<u32>(q) << vec4<u32>(24u, 16u, 8u, 0u);
    let a = (t & vec4<u32>(0x7f000000u)) >> vec4<u32>(MANTISSA + 1u);
    let small = bitcast<vec4<u32>>(vec4<f32>(vec4<i32>(a)) * STEP);
    let normal = a + select(vec4<u32>(BIAS), vec4<u32>(2u * BIAS), a >= vec4<u32>(TOP));
    let bits = select(normal, small, a < vec4<u32>(0x00800000u));
    return bitcast<vec4<f32>>(bits | (t & vec4<u32>(0x80000000u)));
}

// The place of column k's scale.
fn group(k: u32) -> u32 {
    if (GROUP == 0u) {
        return 0u;
    }
    return k / max(GROUP, 1u) * select(1u, 8u, QUOTIENTS == 1u);
}

fn scale(row: u32, at: u32) -> f32 {
    return bitcast<f32>(plane_word(1u, row, at));
}

// v divided by the scale at `at`. The quotient of its three bits of mantissa is known, and powers
// of two make no difference: shaders do not divide exactly.
fn quotient(v: f32, row: u32, at: u32) -> f32 {
    let bits = bitcast<u32>(v);
    let power = bitcast<f32>(bits & 0xff800000u);
    return select(scale(row, at + ((bits >> 20u) & 7u)) * power, v, (bits & 0x7f800000u) == 0x7f800000u);
}

// Four weights with the scales at `at`.
fn scaled(q: u32, row: u32, at: vec4<u32>) -> vec4<f32> {
    let v = values(q);
    if (QUOTIENTS == 1u) {
        return vec4<f32>(
            quotient(v.x, row, at.x), quotient(v.y, row, at.y), quotient(v.z, row, at.z), quotient(v.w, row, at.w));
    }
    return v * vec4<f32>(scale(row, at.x), scale(row, at.y), scale(row, at.z), scale(row, at.w));
}

// Four weights from column k on, each with its own scale.
fn fine_quad(q: u32, row: u32, k: u32) -> vec4<f32> {
    return scaled(q, row, vec4<u32>(group(k), group(k + 1u), group(k + 2u), group(k + 3u)));
}

fn chunk_bytes(p: Place, chunk: u32) -> array<u32, 8> {
    let a = vec4_at(p, 0u, 2u * chunk);
    let b = vec4_at(p, 0u, 2u * chunk + 1u);
    return array<u32, 8>(a.x, a.y, a.z, a.w, b.x, b.y, b.z, b.w);
}

fn decode32(row: u32, k: u32) -> array<vec4<f32>, 8> {
    let q = chunk_bytes(place(row), k >> 5u);
    if (FINE == 1u) {
        return array<vec4<f32>, 8>(
            fine_quad(q[0], row, k), fine_quad(q[1], row, k + 4u), fine_quad(q[2], row, k + 8u), fine_quad(q[3], row, k + 12u),
            fine_quad(q[4], row, k + 16u), fine_quad(q[5], row, k + 20u), fine_quad(q[6], row, k + 24u), fine_quad(q[7], row, k + 28u));
    }
    let at = vec4<u32>(group(k));
    return array<vec4<f32>, 8>(
        scaled(q[0], row, at), scaled(q[1], row, at), scaled(q[2], row, at), scaled(q[3], row, at),
        scaled(q[4], row, at), scaled(q[5], row, at), scaled(q[6], row, at), scaled(q[7], row, at));
}
