// The sixteen values of the codebook in the registers of a subgroup of SUBGROUP lanes (8 or more),
// lane i holding values i and 8 + i.

var<private> lower: f32;
var<private> upper: f32;

fn lookup_init(lane: u32) {
    lower = bitcast<f32>(book[lane & 7u]);
    upper = bitcast<f32>(book[8u + (lane & 7u)]);
}

fn lookup_one(code: u32) -> f32 {
    return select(subgroupShuffle(lower, code & 7u), subgroupShuffle(upper, code & 7u), (code & 8u) != 0u);
}

// The values of the four codes in the bytes of `q`.
fn lookup(q: u32) -> vec4<f32> {
    return vec4<f32>(lookup_one(q), lookup_one(q >> 8u), lookup_one(q >> 16u), lookup_one(q >> 24u));
}

fn code_bytes(q: u32) -> u32 {
    return pack4xI8(vec4<i32>(lookup(q)));
}
