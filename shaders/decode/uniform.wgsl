// INT2 to INT8, UINT2 to UINT8: codes of BITS bits; planes qs (2, 2, 4 or 8 words for 32 weights),
// d (scale a group; scale and zero if ZEROS, in one word if HALVES), and third bits if BITS is 3.
// w[i] = (q[i] - zero) * scale; without ZEROS the zero is the code in the middle, and INT8 has
// signs instead
// GROUP: columns that share a scale, 0 for all of a row. FINE: a chunk of 32 may have several.
// NUMBERED: book[k] is the group of column k. OFFSETS: the zero is added after the scale.
// COLUMN_SCALES: book[k] is what weights of column k are multiplied by.
// CELLS: groups run down the rows, d is the number of the first cell of a row, and the book has
// scale and zero of each.
fn decode_init(lane: u32) {}

const CODES_SIGNED = BITS == 8u;
const CODES_CENTER = select(i32((1u << (BITS - 1u)) & 15u), 0, ZEROS == 1u || BITS == 8u);

fn group(k: u32) -> u32 {
    if (NUMBERED == 1u) {
        return book_word(min(k, params.cols - 1u));
    }
    if (GROUP == 0u) {
        return 0u;
    }
    return k / max(GROUP, 1u);
}

// Scale and zero of column k.
fn scale(row: u32, k: u32) -> vec2<f32> {
    if (CELLS > 0u) {
        let cell = (plane_word(1u, row, 0u) + min(k, params.cols - 1u)) % max(CELLS, 1u);
        return vec2<f32>(bitcast<f32>(book_word(2u * cell)), bitcast<f32>(book_word(2u * cell + 1u)));
    }
    if (HALVES == 1u) {
        let word = plane_word(1u, row, group(k));
        return vec2<f32>(unpack2x16float(word).x, f32(word >> 16u));
    }
    let at = group(k) * (1u + ZEROS);
    let d = bitcast<f32>(plane_word(1u, row, at));
    if (ZEROS == 0u) {
        return vec2<f32>(d, f32(CODES_CENTER));
    }
    return vec2<f32>(d, bitcast<f32>(plane_word(1u, row, at + 1u)));
}

fn values(q: u32) -> vec4<f32> {
    if (BITS == 8u && ZEROS == 0u) {
        return quad_signed(q);
    }
    return quad(q);
}

fn code_quads(row: u32, k: u32) -> array<u32, 8> {
    let chunk = k >> 5u;
    if (BITS == 8u) {
        return byte_quads(plane_vec4(0u, row, 2u * chunk), plane_vec4(0u, row, 2u * chunk + 1u));
    }
    if (BITS == 4u) {
        return nibbles(plane_vec4(0u, row, chunk));
    }
    let q = pairs(vec2<u32>(plane_word(0u, row, 2u * chunk), plane_word(0u, row, 2u * chunk + 1u)));
    if (BITS == 3u) {
        return with_third_bit(q, plane_word(2u, row, chunk));
    }
    return q;
}

// Four weights from column k on, with scales d and zeros z.
fn scaled(q: u32, d: vec4<f32>, z: vec4<f32>, k: u32) -> vec4<f32> {
    if (OFFSETS == 1u) {
        return values(q) * d + z;
    }
    let v = (values(q) - z) * d;
    if (COLUMN_SCALES == 1u) {
        return v * bitcast<vec4<f32>>(vec4<u32>(book_word(k), book_word(k + 1u), book_word(k + 2u), book_word(k + 3u)));
    }
    return v;
}

// The same, each with its own scale.
fn fine_quad(q: u32, row: u32, k: u32) -> vec4<f32> {
    let a = scale(row, k);
    let b = scale(row, k + 1u);
    let c = scale(row, k + 2u);
    let d = scale(row, k + 3u);
    return scaled(q, vec4<f32>(a.x, b.x, c.x, d.x), vec4<f32>(a.y, b.y, c.y, d.y), k);
}

fn decode32(row: u32, k: u32) -> array<vec4<f32>, 8> {
    let q = code_quads(row, k);
    if (FINE == 1u) {
        return array<vec4<f32>, 8>(
            fine_quad(q[0], row, k), fine_quad(q[1], row, k + 4u), fine_quad(q[2], row, k + 8u), fine_quad(q[3], row, k + 12u),
            fine_quad(q[4], row, k + 16u), fine_quad(q[5], row, k + 20u), fine_quad(q[6], row, k + 24u), fine_quad(q[7], row, k + 28u));
    }
    let s = scale(row, k);
    let d = vec4<f32>(s.x);
    let z = vec4<f32>(s.y);
    return array<vec4<f32>, 8>(
        scaled(q[0], d, z, k), scaled(q[1], d, z, k + 4u), scaled(q[2], d, z, k + 8u), scaled(q[3], d, z, k + 12u),
        scaled(q[4], d, z, k + 16u), scaled(q[5], d, z, k + 20u), scaled(q[6], d, z, k + 24u), scaled(q[7], d, z, k + 28u));
}

// The scale of a row, where all of it has one.
fn row_scale(row: u32) -> f32 {
    return scale(row, 0u).x;
}

// One weight of INT8, with that scale.
fn weight(row: u32, k: u32, s: f32) -> f32 {
    let q = values(plane_word(0u, row, k >> 2u) >> (8u * (k & 3u))).x;
    if (GROUP == 0u) {
        return q * s;
    }
    return q * scale(row, k).x;
}

fn codes32(row: u32, k: u32) -> Codes {
    let s = scale(row, k);
    return codes(code_quads(row, k), s.x, select(-s.y * s.x, s.y, OFFSETS == 1u));
}
