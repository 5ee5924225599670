// Fluent Forward clients and a server made of Go libraries that we did not write, for the tests of esa-tls.
//
//	goforward logger ...  sends the lines of its standard input with github.com/fluent/fluent-logger-golang
//	goforward ibm ...     the same with github.com/IBM/fluent-forward-go
//	goforward serve ...   a server made of the protocol package of github.com/IBM/fluent-forward-go
//
// `-h` behind each of them lists its flags.
package main

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log"
	"os"
	"unicode/utf8"
)

func main() {
	log.SetFlags(0)
	if len(os.Args) < 2 {
		log.Fatal("usage: goforward logger|ibm|serve ...")
	}
	run, known := map[string]func([]string) error{"logger": logger, "ibm": ibm, "serve": serve}[os.Args[1]]
	if !known {
		log.Fatalf("no such command: %s", os.Args[1])
	}
	if err := run(os.Args[2:]); err != nil {
		log.Fatal(err)
	}
}

// eachLine calls back for every line, without its line feed.
func eachLine(from io.Reader, do func(line []byte) error) error {
	lines := bufio.NewScanner(from)
	lines.Buffer(nil, 4<<20)
	for lines.Scan() {
		if err := do(append([]byte(nil), lines.Bytes()...)); err != nil {
			return err
		}
	}
	return lines.Err()
}

// recordOf is a line as a shipper would send it: text where it is UTF-8, else bytes.
func recordOf(line []byte) map[string]any {
	if utf8.Valid(line) {
		return map[string]any{"log": string(line)}
	}
	return map[string]any{"log": line}
}

// clientTLS trusts the authorities in caFile, and shows a certificate if there is one.
func clientTLS(caFile, certFile, keyFile string) (*tls.Config, error) {
	pem, err := os.ReadFile(caFile)
	if err != nil {
		return nil, err
	}
	config := &tls.Config{RootCAs: x509.NewCertPool()}
	if !config.RootCAs.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s: no certificate", caFile)
	}
	if certFile != "" {
		certificate, err := tls.LoadX509KeyPair(certFile, keyFile)
		if err != nil {
			return nil, err
		}
		config.Certificates = []tls.Certificate{certificate}
	}
	return config, nil
}
