package main

import (
	"bytes"
	"compress/gzip"
	"crypto/rand"
	"crypto/tls"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"sync"

	"github.com/IBM/fluent-forward-go/fluent/protocol"
	"github.com/tinylib/msgp/msgp"
)

// server keeps every entry in a file before it acknowledges its frame.
type server struct {
	key   []byte
	mutex sync.Mutex
	out   *os.File
}

func serve(arguments []string) error {
	flags := flag.NewFlagSet("serve", flag.ExitOnError)
	address := flags.String("listen", "127.0.0.1:0", "host and port")
	key := flags.String("key", "", "shared key")
	path := flags.String("out", "", "file that entries are added to, a JSON object a line")
	certFile := flags.String("cert", "", "TLS: certificate")
	keyFile := flags.String("cert-key", "", "TLS: its key")
	_ = flags.Parse(arguments)

	out, err := os.OpenFile(*path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", *address)
	if err != nil {
		return err
	}
	fmt.Printf("listening %d\n", listener.Addr().(*net.TCPAddr).Port)
	if *certFile != "" {
		certificate, err := tls.LoadX509KeyPair(*certFile, *keyFile)
		if err != nil {
			return err
		}
		listener = tls.NewListener(listener, &tls.Config{Certificates: []tls.Certificate{certificate}})
	}
	s := &server{key: []byte(*key), out: out}
	for {
		connection, err := listener.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer connection.Close()
			if err := s.converse(connection); err != nil && !errors.Is(err, io.EOF) {
				fmt.Printf("refused %v\n", err)
			}
		}()
	}
}

func (s *server) converse(connection net.Conn) error {
	reader := msgp.NewReader(connection)
	if len(s.key) > 0 {
		if err := s.greet(connection, reader); err != nil {
			return err
		}
	}
	for {
		var frame msgp.Raw
		if err := frame.DecodeMsg(reader); err != nil {
			return err
		}
		chunk, err := s.take(frame)
		if err != nil {
			return err
		}
		if chunk != "" {
			if err := msgp.Encode(connection, &protocol.AckMessage{Ack: chunk}); err != nil {
				return err
			}
		}
	}
}

// greet is the server's side of the handshake.
func (s *server) greet(connection net.Conn, reader *msgp.Reader) error {
	nonce := make([]byte, 16)
	if _, err := rand.Read(nonce); err != nil {
		return err
	}
	helo := protocol.NewHelo(&protocol.HeloOpts{Nonce: nonce, Auth: []byte{}, Keepalive: true})
	if err := msgp.Encode(connection, helo); err != nil {
		return err
	}
	ping, err := readPing(reader)
	if err != nil {
		return err
	}
	refusal := protocol.ValidatePingDigest(ping, s.key, nonce)
	reason := ""
	if refusal != nil {
		reason = "shared key mismatch"
	}
	pong, err := protocol.NewPong(refusal == nil, reason, "go-server", s.key, helo, ping)
	if err != nil {
		return err
	}
	if err := msgp.Encode(connection, pong); err != nil {
		return err
	}
	return refusal
}

// readPing is there because the library takes the salt only as bin, and Fluent Bit wants it as str: who speaks to both sends str.
func readPing(reader *msgp.Reader) (*protocol.Ping, error) {
	if size, err := reader.ReadArrayHeader(); err != nil || size != 6 {
		return nil, fmt.Errorf("PING of %d elements: %w", size, err)
	}
	ping := &protocol.Ping{}
	parts := []*string{&ping.MessageType, &ping.ClientHostname, nil, &ping.SharedKeyHexDigest, &ping.Username, &ping.Password}
	for _, part := range parts {
		if part == nil {
			kind, err := reader.NextType()
			if err != nil {
				return nil, err
			}
			if kind == msgp.StrType {
				ping.SharedKeySalt, err = reader.ReadStringAsBytes(nil)
			} else {
				ping.SharedKeySalt, err = reader.ReadBytes(nil)
			}
			if err != nil {
				return nil, err
			}
			continue
		}
		text, err := reader.ReadString()
		if err != nil {
			return nil, err
		}
		*part = text
	}
	if ping.MessageType != protocol.MsgTypePing {
		return nil, fmt.Errorf("not a PING: %s", ping.MessageType)
	}
	return ping, nil
}

// take keeps the entries of a frame and returns its chunk.
func (s *server) take(frame []byte) (string, error) {
	tag, entries, options, err := decode(frame)
	if err != nil {
		return "", err
	}
	var lines bytes.Buffer
	for _, entry := range entries {
		line, err := json.Marshal(map[string]any{"tag": tag, "time": entry.Timestamp.UnixNano(), "record": entry.Record})
		if err != nil {
			return "", err
		}
		lines.Write(append(line, '\n'))
	}
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if _, err := s.out.Write(lines.Bytes()); err != nil {
		return "", err
	}
	if options == nil {
		return "", nil
	}
	return options.Chunk, nil
}

// decode tells the mode from the type of the second element and leaves the rest to the library.
func decode(frame []byte) (string, protocol.EntryList, *protocol.MessageOptions, error) {
	_, rest, err := msgp.ReadArrayHeaderBytes(frame)
	if err != nil {
		return "", nil, nil, err
	}
	if _, rest, err = msgp.ReadStringBytes(rest); err != nil {
		return "", nil, nil, err
	}
	switch kind := msgp.NextType(rest); kind {
	case msgp.ExtensionType:
		var message protocol.MessageExt
		_, err = message.UnmarshalMsg(frame)
		return message.Tag, protocol.EntryList{{Timestamp: message.Timestamp, Record: message.Record}}, message.Options, err
	case msgp.ArrayType:
		var message protocol.ForwardMessage
		_, err = message.UnmarshalMsg(frame)
		return message.Tag, message.Entries, message.Options, err
	case msgp.BinType:
		var message protocol.PackedForwardMessage
		if _, err = message.UnmarshalMsg(frame); err != nil {
			return "", nil, nil, err
		}
		packed := message.EventStream
		if message.Options != nil && message.Options.Compressed == protocol.OptValGZIP {
			unpacking, err := gzip.NewReader(bytes.NewReader(packed))
			if err != nil {
				return "", nil, nil, err
			}
			if packed, err = io.ReadAll(unpacking); err != nil {
				return "", nil, nil, err
			}
		}
		var entries protocol.EntryList
		_, err = entries.UnmarshalPacked(packed)
		if err == nil && message.Options != nil && message.Options.Size != nil && *message.Options.Size != len(entries) {
			err = fmt.Errorf("size %d, but %d entries", *message.Options.Size, len(entries))
		}
		return message.Tag, entries, message.Options, err
	default:
		return "", nil, nil, fmt.Errorf("no frame: %s", kind)
	}
}
