// Package lines reads what clients have to send.
package lines

import (
	"bufio"
	"io"
	"unicode/utf8"
)

// Each calls back for every line, without its line feed.
func Each(from io.Reader, do func(line []byte) error) error {
	lines := bufio.NewScanner(from)
	lines.Buffer(nil, 4<<20)
	for lines.Scan() {
		if err := do(append([]byte(nil), lines.Bytes()...)); err != nil {
			return err
		}
	}
	return lines.Err()
}

// Record is a line as a shipper would send it: text where it is UTF-8, else bytes.
func Record(line []byte) map[string]any {
	if utf8.Valid(line) {
		return map[string]any{"log": string(line)}
	}
	return map[string]any{"log": line}
}
