// INT4 and UINT4: codes of four bits; planes qs (4 words for 32 weights), d (scale a group; scale and zero if ZEROS).
// w[i] = (q[i] - zero) * scale; the zero of INT4 is 8
// GROUP: columns that share a scale, 0 for all of a row. FINE: a chunk of 32 may have several.
fn decode_init(lane: u32) {}

const CODES_SIGNED = false;
const CODES_CENTER = select(8, 0, ZEROS == 1u);

// Scale and zero of column k.
fn scale(row: u32, k: u32) -> vec2<f32> {
    var group = 0u;
    if (GROUP > 0u) {
        group = k / max(GROUP, 1u);
    }
    let d = bitcast<f32>(plane_word(1u, row, group * (1u + ZEROS)));
    if (ZEROS == 0u) {
        return vec2<f32>(d, 8.0);
    }
    return vec2<f32>(d, bitcast<f32>(plane_word(1u, row, group * 2u + 1u)));
}

// Four weights from column k on, each with its own scale.
fn fine_quad(q: u32, row: u32, k: u32) -> vec4<f32> {
    let a = scale(row, k);
    let b = scale(row, k + 1u);
    let c = scale(row, k + 2u);
    let d = scale(row, k + 3u);
    return (quad(q) - vec4<f32>(a.y, b.y, c.y, d.y)) * vec4<f32>(a.x, b.x, c.x, d.x);
}

fn decode32(row: u32, k: u32) -> array<vec4<f32>, 8> {
    let q = nibbles(plane_vec4(0u, row, k >> 5u));
    if (FINE == 1u) {
        return array<vec4<f32>, 8>(
            fine_quad(q[0], row, k), fine_quad(q[1], row, k + 4u), fine_quad(q[2], row, k + 8u), fine_quad(q[3], row, k + 12u),
            fine_quad(q[4], row, k + 16u), fine_quad(q[5], row, k + 20u), fine_quad(q[6], row, k + 24u), fine_quad(q[7], row, k + 28u));
    }
    let s = scale(row, k);
    let z = vec4<f32>(s.y);
    return array<vec4<f32>, 8>(
        (quad(q[0]) - z) * s.x, (quad(q[1]) - z) * s.x, (quad(q[2]) - z) * s.x, (quad(q[3]) - z) * s.x,
        (quad(q[4]) - z) * s.x, (quad(q[5]) - z) * s.x, (quad(q[6]) - z) * s.x, (quad(q[7]) - z) * s.x);
}

fn codes32(row: u32, k: u32) -> Codes {
    let s = scale(row, k);
    return codes(nibbles(plane_vec4(0u, row, k >> 5u)), s.x, -s.y * s.x);
}
