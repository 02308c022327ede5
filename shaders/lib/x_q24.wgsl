// Activations as `quantize_activations_q24` leaves them: integers of three bytes with a scale for
// each 32.

const DIGITS = 3u;
