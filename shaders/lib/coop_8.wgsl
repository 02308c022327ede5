// Cooperative matrices of 8 by 8: f16 in, f32 sums.

const EDGE = 8u;
alias Rows = coop_mat8x8<f16, A>;
alias Cols = coop_mat8x8<f16, B>;
alias Sums = coop_mat8x8<f32, C>;
