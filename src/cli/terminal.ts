/** What the terminal can do. The environment is read by src/config; Node's own check honours NO_COLOR and TERM. */
/** Whether a stream is a terminal that shows colour and wants it. */
export function hasColors(stream: NodeJS.WriteStream): boolean {
  return stream.isTTY && stream.hasColors();
}
