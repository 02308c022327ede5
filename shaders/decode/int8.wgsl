// INT8 and UINT8: codes of eight bits; planes qs (8 words for 32 weights), d (scale a group; scale and zero if ZEROS).
// w[i] = (q[i] - zero) * scale; INT8 has signs and no zeros
// GROUP: columns that share a scale, 0 for all of a row. FINE: a chunk of 32 may have several.
fn decode_init(lane: u32) {}

const CODES_SIGNED = true;
const CODES_CENTER = 0;

// Scale and zero of column k.
fn scale(row: u32, k: u32) -> vec2<f32> {
    var group = 0u;
    if (GROUP > 0u) {
        group = k / max(GROUP, 1u);
    }
    let d = bitcast<f32>(plane_word(1u, row, group * (1u + ZEROS)));
    if (ZEROS == 0u) {
        return vec2<f32>(d, 0.0);
    }
    return vec2<f32>(d, bitcast<f32>(plane_word(1u, row, group * 2u + 1u)));
}

fn values(q: u32) -> vec4<f32> {
    if (ZEROS == 0u) {
        return quad_signed(q);
    }
    return quad(q);
}

// Four weights from column k on, each with its own scale.
fn fine_quad(q: u32, row: u32, k: u32) -> vec4<f32> {
    let a = scale(row, k);
    let b = scale(row, k + 1u);
    let c = scale(row, k + 2u);
    let d = scale(row, k + 3u);
    return (values(q) - vec4<f32>(a.y, b.y, c.y, d.y)) * vec4<f32>(a.x, b.x, c.x, d.x);
}

fn code_quads(row: u32, k: u32) -> array<u32, 8> {
    return byte_quads(plane_vec4(0u, row, k >> 4u), plane_vec4(0u, row, (k >> 4u) + 1u));
}

fn decode32(row: u32, k: u32) -> array<vec4<f32>, 8> {
    let q = code_quads(row, k);
    if (FINE == 1u) {
        return array<vec4<f32>, 8>(
            fine_quad(q[0], row, k), fine_quad(q[1], row, k + 4u), fine_quad(q[2], row, k + 8u), fine_quad(q[3], row, k + 12u),
            fine_quad(q[4], row, k + 16u), fine_quad(q[5], row, k + 20u), fine_quad(q[6], row, k + 24u), fine_quad(q[7], row, k + 28u));
    }
    let s = scale(row, k);
    let z = vec4<f32>(s.y);
    return array<vec4<f32>, 8>(
        (values(q[0]) - z) * s.x, (values(q[1]) - z) * s.x, (values(q[2]) - z) * s.x, (values(q[3]) - z) * s.x,
        (values(q[4]) - z) * s.x, (values(q[5]) - z) * s.x, (values(q[6]) - z) * s.x, (values(q[7]) - z) * s.x);
}

// The scale of a row, where all of it has one.
fn row_scale(row: u32) -> f32 {
    return scale(row, 0u).x;
}

// One weight, with that scale.
fn weight(row: u32, k: u32, s: f32) -> f32 {
    let q = values(plane_word(0u, row, k >> 2u) >> (8u * (k & 3u))).x;
    if (GROUP == 0u && ZEROS == 0u) {
        return q * s;
    }
    let own = scale(row, k);
    return (q - own.y) * own.x;
}

fn codes32(row: u32, k: u32) -> Codes {
    return codes(code_quads(row, k), scale(row, k).x, 0.0);
}
