package main

import (
	"flag"
	"fmt"
	"os"
	"time"

	"github.com/IBM/fluent-forward-go/fluent/client"
	"github.com/IBM/fluent-forward-go/fluent/protocol"
)

// ibm sends frames of some lines in the mode asked for and says "sent" for each when the library is content.
func ibm(arguments []string) error {
	flags := flag.NewFlagSet("ibm", flag.ExitOnError)
	network := flags.String("network", "tcp", "tcp or unix")
	address := flags.String("address", "", "host and port, or path")
	mode := flags.String("mode", "packed", "message, exact (a message with EventTime), forward, packed or compressed")
	lines := flags.Int("lines", 3, "lines in a frame; messages have one")
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
	send := func() error {
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
		*lines = 1
	}
	err := eachLine(os.Stdin, func(line []byte) error {
		entries = append(entries, protocol.EntryExt{Timestamp: at, Record: recordOf(line)})
		if len(entries) < *lines {
			return nil
		}
		return send()
	})
	if err == nil && len(entries) > 0 {
		err = send()
	}
	return err
}
