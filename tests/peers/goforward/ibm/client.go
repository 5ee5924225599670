package main

import (
	"crypto/tls"
	"crypto/x509"
	"flag"
	"fmt"
	"os"
	"time"

	"example.test/goforward/internal/lines"
	"github.com/IBM/fluent-forward-go/fluent/client"
	"github.com/IBM/fluent-forward-go/fluent/protocol"
)

// send sends frames of some lines in the mode asked for and says "sent" for each when the library is content.
func send(arguments []string) error {
	flags := flag.NewFlagSet("send", flag.ExitOnError)
	network := flags.String("network", "tcp", "tcp or unix")
	address := flags.String("address", "", "host and port, or path")
	mode := flags.String("mode", "packed", "message, exact (a message with EventTime), forward, packed or compressed")
	size := flags.Int("lines", 3, "lines in a frame; messages have one")
	ack := flags.Bool("ack", false, "ask for acknowledgements")
	key := flags.String("key", "", "shared key")
	tag := flags.String("tag", "esa1", "tag")
	caFile := flags.String("ca", "", "TLS: authorities")
	certFile := flags.String("cert", "", "TLS: our certificate")
	keyFile := flags.String("cert-key", "", "TLS: its key")
	_ = flags.Parse(arguments)

	dial := &client.ConnFactory{Network: *network, Address: *address, Timeout: 5 * time.Second}
	if *caFile != "" {
		config, err := clientTLS(*caFile, *certFile, *keyFile)
		if err != nil {
			return err
		}
		dial.TLSConfig = config
	}
	sender := client.New(client.ConnectionOptions{Factory: dial, RequireAck: *ack, ConnectionTimeout: 5 * time.Second})
	sender.Hostname = "ibm-client"
	if *key != "" {
		sender.AuthInfo.SharedKey = []byte(*key)
	}
	if err := sender.Connect(); err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	defer sender.Disconnect()
	if *key != "" {
		if err := sender.Handshake(); err != nil {
			return fmt.Errorf("handshake: %w", err)
		}
	}

	at := protocol.EventTime{Time: time.Unix(1_700_000_000, 123_456_789)}
	var entries protocol.EntryList
	flush := func() error {
		var err error
		switch *mode {
		case "message":
			err = sender.SendMessage(*tag, entries[0].Record)
		case "exact":
			err = sender.SendMessageExt(*tag, entries[0].Record)
		case "forward":
			err = sender.SendForward(*tag, entries)
		case "packed":
			err = sender.SendPacked(*tag, entries)
		case "compressed":
			err = sender.SendCompressed(*tag, entries)
		default:
			err = fmt.Errorf("no such mode: %s", *mode)
		}
		if err != nil {
			return fmt.Errorf("send: %w", err)
		}
		fmt.Printf("sent %d\n", len(entries))
		entries = nil
		return nil
	}
	if *mode == "message" || *mode == "exact" {
		*size = 1
	}
	err := lines.Each(os.Stdin, func(line []byte) error {
		entries = append(entries, protocol.EntryExt{Timestamp: at, Record: lines.Record(line)})
		if len(entries) < *size {
			return nil
		}
		return flush()
	})
	if err == nil && len(entries) > 0 {
		err = flush()
	}
	return err
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
