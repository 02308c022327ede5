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
const TWO_SCALES = false;

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
fn scale(p: Place, k: u32) -> vec2<f32> {
    if (CELLS > 0u) {
        let cell = (word_at(p, 1u, 0u) + min(k, params.cols - 1u)) % max(CELLS, 1u);
        return vec2<f32>(bitcast<f32>(book_word(2u * cell)), bitcast<f32>(book_word(2u * cell + 1u)));
    }
    if (HALVES == 1u) {
        let word = word_at(p, 1u, group(k));
        return vec2<f32>(unpack2x16float(word).x, f32(word >> 16u));
    }
    let at = group(k) * (1u + ZEROS);
    let d = bitcast<f32>(word_at(p, 1u, at));
    if (ZEROS == 0u) {
        return vec2<f32>(d, f32(CODES_CENTER));
    }
    return vec2<f32>(d, bitcast<f32>(word_at(p, 1u, at + 1u)));
}

fn values(q: u32) -> vec4<f32> {
    if (BITS == 8u && ZEROS == 0u) {
        return quad_signed(q);
    }
    return quad(q);
}

struct Raw {
    a: vec4<u32>,
    b: vec4<u32>,  // of eight bits; else third bits
    s: vec2<f32>,
}

fn raw32(p: Place, chunk: u32) -> Raw {
    let s = scale(p, 32u * chunk);
    if (BITS == 8u) {
        return Raw(vec4_at(p, 0u, 2u * chunk), vec4_at(p, 0u, 2u * chunk + 1u), s);
    }
    if (BITS == 4u) {
        return Raw(vec4_at(p, 0u, chunk), vec4<u32>(0u), s);
    }
    let q = vec4<u32>(word_at(p, 0u, 2u * chunk), word_at(p, 0u, 2u * chunk + 1u), 0u, 0u);
    if (BITS == 3u) {
        return Raw(q, vec4<u32>(word_at(p, 2u, chunk)), s);
    }
    return Raw(q, vec4<u32>(0u), s);
}

fn raw_quad(r: Raw, i: u32) -> u32 {
    if (BITS == 8u) {
        return byte_quad(r.a, r.b, i);
    }
    if (BITS == 4u) {
        return nibble_quad(r.a, i);
    }
    let q = pair_quad(r.a.xy, i);
    if (BITS == 3u) {
        return q | third_bits(r.b.x, i);
    }
    return q;
}

fn quad_values(r: Raw, i: u32) -> vec4<f32> {
    if (BITS == 4u) {
        return nibble_values(r.a, i);
    }
    return byte_values(raw_quad(r, i));
}

fn raw_scale(r: Raw, chunk: u32, half: u32) -> vec2<f32> {
    return vec2<f32>(r.s.x, select(-r.s.y * r.s.x, r.s.y, OFFSETS == 1u));
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
fn fine_quad(r: Raw, p: Place, k: u32, i: u32) -> vec4<f32> {
    let at = k + 4u * i;
    let a = scale(p, at);
    let b = scale(p, at + 1u);
    let c = scale(p, at + 2u);
    let d = scale(p, at + 3u);
    return scaled(raw_quad(r, i), vec4<f32>(a.x, b.x, c.x, d.x), vec4<f32>(a.y, b.y, c.y, d.y), at);
}

// Quad `i` of a chunk with one scale.
fn even_quad(r: Raw, k: u32, i: u32) -> vec4<f32> {
    return scaled(raw_quad(r, i), vec4<f32>(r.s.x), vec4<f32>(r.s.y), k + 4u * i);
}

fn decode32(row: u32, k: u32) -> array<vec4<f32>, 8> {
    let p = place(row);
    let r = raw32(p, k >> 5u);
    if (FINE == 1u) {
        return array<vec4<f32>, 8>(
            fine_quad(r, p, k, 0u), fine_quad(r, p, k, 1u), fine_quad(r, p, k, 2u), fine_quad(r, p, k, 3u),
            fine_quad(r, p, k, 4u), fine_quad(r, p, k, 5u), fine_quad(r, p, k, 6u), fine_quad(r, p, k, 7u));
    }
    return array<vec4<f32>, 8>(
        even_quad(r, k, 0u), even_quad(r, k, 1u), even_quad(r, k, 2u), even_quad(r, k, 3u),
        even_quad(r, k, 4u), even_quad(r, k, 5u), even_quad(r, k, 6u), even_quad(r, k, 7u));
}

// The scale of a row, where all of it has one.
fn row_scale(row: u32) -> f32 {
    return scale(place(row), 0u).x;
}

// One weight of INT8, with that scale.
fn weight(row: u32, k: u32, s: f32) -> f32 {
    let q = values(plane_word(0u, row, k >> 2u) >> (8u * (k & 3u))).x;
    if (GROUP == 0u) {
        return q * s;
    }
    return q * scale(place(row), k).x;
}
